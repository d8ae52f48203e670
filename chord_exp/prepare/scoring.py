FREE_TEXT_WAYS = ("none", "judge", "chrf", "bleu")
