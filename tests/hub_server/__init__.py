"""A small Hugging Face Hub on this machine: what huggingface_hub asks of one to list, download and upload a repository.

It behaves as the real one does without Xet (HF_HUB_DISABLE_XET=1), and goes wrong in every way that a test asks for.
"""

from .hub import Asked, Collection, Fault, Hub, commit, git_blob, read
from .server import environment, serve, use

__all__ = ["Asked", "Collection", "Fault", "Hub", "commit", "environment", "git_blob", "read", "serve", "use"]
