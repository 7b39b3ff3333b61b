"""`rarefirst simulate`: replay labeling on data whose labels are known, with several scorers.

images    a folder of class folders, or a zip file of such
features  what a frozen model makes of them, cached on disk
frozen    which frozen model: the settings', or one trained on a repeat's first labels
data      what can be read, and which classes are rare
games     each scorer in each repeat
kept      finished games, so that a run that was stopped goes on
report    what it came to
replay    all of it, and the files
"""

#: Random order is played in any case.
DEFAULT_SCORERS = ("rarefirst", "tail_mass", "entropy", "random")
