"""Everything that needs torch: model families, generating, training. Runs in child processes only."""
