"""Reference data: entries that declare what files hold, readers, and columnar splits that runs read."""
