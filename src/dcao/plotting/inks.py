"""The inks of a picture."""

# Okabe and Ito 2008, as in the papers of dcao_lab: colour-blind readers can tell them apart, and they show on white and
# on black.
INKS = {"main": "#0072B2", "faint": "#56B4E9", "limit": "#D55E00"}
MARK_INK = "#777777"
SMALL = 8.5  # points, of what is written beside and above lines
