"""What is wrong: with this machine (`machine`), or with a run that has failed or learnt nothing (`run`)."""
