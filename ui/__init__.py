"""What the pages share: page frame, cached reads, chart builders, words and colours."""
