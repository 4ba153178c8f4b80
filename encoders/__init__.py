"""The interest model: a language encoder fine-tuned on clicks and purchases."""
