"""Upload to a repository of the Hub: its state, the changes, one commit, verification, and what is done afterwards.

The token is the one that `huggingface_hub` finds, in HF_TOKEN or from `hf auth login`.
"""
