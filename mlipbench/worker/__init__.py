"""The process beside the model: it loads one adapter and answers requests until its pipe closes."""
