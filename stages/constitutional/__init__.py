"""The constitutional classifier: Gemma with LoRA, safe or toxic."""
