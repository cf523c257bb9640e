from fastai_losses.core import *
from fastai_losses.probability import *
from fastai_losses.score import *
from fastai_losses.one_vs_all import *
from fastai_losses.class_vectors import *
from fastai_losses.metrics import *
from fastai_losses.data import *
from fastai_losses.comparison import *
