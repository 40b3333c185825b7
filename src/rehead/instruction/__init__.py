"""The sibling of classification: fine-tuning a language model on requests and the answers that are wanted."""
