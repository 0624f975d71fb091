"""Train LoRAs: one loop for every family, and the files it leaves behind."""
