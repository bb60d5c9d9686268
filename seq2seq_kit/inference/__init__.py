"""Text in, text or scores out: joins tokenizer, model and search."""
