"Drop-in classification losses for fastai, and a fair comparison of them"
from importlib.metadata import version

__version__ = version('fastai_losses')
