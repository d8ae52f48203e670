"""What runs in the process of a run: Ray connected, Trinity's actors driven through the stages."""
