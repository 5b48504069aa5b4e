"""The judge: a small language model with LoRA, a binary judge beside the hazards; more accurate and slower."""
