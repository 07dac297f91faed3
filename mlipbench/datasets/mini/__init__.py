"""The data that ship with the package, and the scripts that made them; nothing else imports these."""
