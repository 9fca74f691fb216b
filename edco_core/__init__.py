"""What EDCO thinks: data, prompts, scoring, curricula, training.  No database, no Prefect."""
