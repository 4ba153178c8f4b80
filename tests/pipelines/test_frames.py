"""What training and evaluation pass on is what the frames say, on the simulated shop with a trained version."""

from frame_check import check_frame

from features.tables.frames import PAIR, CandidateRows, Pairs, Recall, Requests, RowLabels, Scored, Truth
from pipelines.evaluation.evaluate import candidate_recall, evaluate, version_lists, window_of
from pipelines.stores.rows import keep_rows, kept_rows
from pipelines.training.labelled import label
from ranker.tables import Ceiling, Comparisons, Means, PerRequest


def test_labelled_requests_lists_and_verdict(trained_project):
    trained, config, log = trained_project.trained, trained_project.config, trained_project.inputs.log
    test = trained.split.test
    labelled = label(trained.chain, config, test, name="test", encoder_day=trained.encoder_day)
    check_frame(labelled.requests, Requests)
    check_frame(labelled.truth, Truth, sorted_by=PAIR)
    check_frame(labelled.rows, CandidateRows, further=True, sorted_by=PAIR)
    check_frame(labelled.rows.select(labelled.rows.columns[-3:]), RowLabels)
    assert kept_rows(keep_rows(labelled.rows, log, config), log, config).schema == labelled.rows.schema
    lists = version_lists(labelled, trained.ranker, trained.behaviour_ranker, trained.pooling)
    for system in lists.values():
        check_frame(system, Scored, sorted_by=PAIR)
    judged = evaluate(log, config, labelled, lists=lists, first_day=test.start).judged
    check_frame(judged.table, Means)
    check_frame(judged.pairs, Comparisons)
    check_frame(judged.per_request, PerRequest, further=True)
    check_frame(judged.ceiling, Ceiling)
    check_frame(window_of(log, config, labelled, test.start).had_before, Pairs)
    check_frame(candidate_recall(trained, config), Recall)
