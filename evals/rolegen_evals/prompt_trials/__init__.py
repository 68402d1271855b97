"""Is a comparison of prompts to be believed? A planted shop, and an LLM whose skill depends on one sentence by a known amount."""
