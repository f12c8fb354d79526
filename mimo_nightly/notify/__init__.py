"""Tell somebody of changes of state: by a command or a webhook, one message a run."""
