"""From labelled token ids to trained weights: trunk pass, probe, tail."""
