"""What was measured, for others to read: the paper's tables and figures from kept runs, and a page."""
