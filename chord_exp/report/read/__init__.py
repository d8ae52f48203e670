"""Read what runs left: their folders, settings, histories, answers and evaluations."""
