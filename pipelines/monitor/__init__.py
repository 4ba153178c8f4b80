"""What becomes of published nights: how good they turned out, how good tonight's will be, and what drifts.

`realised` judges a past night by what its users did; `estimate` says from past nights what tonight's NDCG will be,
before a label is there; `drift` compares tonight with the nights before. All three are functions of frames and of what
was measured of the nights (`pipelines.night.measures`); only `nights` reads files. What is shown of them is made in
`prometheus` (a file of metrics) and `trends` (a page).

NDCG of a published night is biased by exposure: people choose from what they were shown, so a list that was live gets
more of its items right than one that was not. It serves to watch one system over time, and not to compare two.
"""
