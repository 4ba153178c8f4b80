"""Turns texts into vectors and histories into interest: a language encoder fine-tuned on clicks and purchases.

Here live loading a pretrained encoder, its two towers, their losses and training on one block of the timeline, vectors
of texts, the interest columns, and the click model of texts without users. Nothing here decides when to train, where
anything is kept or what is shown: `pipelines` does. Nothing here knows the ranker: a metric that stops a training is
handed in.

Public:

- The model: `encoders.model.InterestModel` (text tower, user tower, tokenizer; `start`, `save`, `load`, `embed`), made
  of `encoders.towers.TextTower` and `encoders.towers.UserTower`; `encoders.loading.load_backbone` says which pretrained
  models load and why another does not; `encoders.folders.resolve` finds their folders.
- Training: `encoders.data.Examples` and `encoders.data.Histories` are what a block teaches,
  `encoders.fit.fit_block` learns it, `encoders.fit.BlockTraining` says what came of it. Losses: `encoders.losses`.
- Vectors: `encoders.tokenize.TokenisedTexts`, `encoders.embed` and, where they lie, `encoders.hidden.HiddenStates`.
- Scores: `encoders.interest.InterestScorer` and its columns, `encoders.interest.INTEREST_COLUMNS`.
- Items beside their text: `encoders.items.ItemEmbeddings`. Adapters: `encoders.adapters`.
- Headlines: `encoders.click_model.ClickModel`, how likely a text is clicked.
- Configuration: `encoders.config.EncoderConfig`, `encoders.config.ClickModelConfig`.

Another kind of transformer is a class in `encoders.architecture` and an entry in its `KINDS`. A version has one
language model, which `encoder.model` names. A second one beside it needs no code here: write its vectors into a column
of the items table and name that column in `features.vectors`, and the ranker sees how near an item is to the history.
"""
