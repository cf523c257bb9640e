"Drop-in classification losses for fastai, and a fair comparison of them"
import warnings
from importlib.metadata import version

__version__ = version('fastai_losses')

with warnings.catch_warnings():  # fastai calls torch.jit.script when it is imported
    warnings.filterwarnings('ignore', '.*torch.jit', FutureWarning)
    warnings.filterwarnings('ignore', '.*torch.jit', DeprecationWarning)
    warnings.filterwarnings('ignore', 'IProgress not found')
    import fastai.layers

# pandas 3 gives fastai's tables arrays that are read-only, and fastai only reads them
warnings.filterwarnings('ignore', 'The given NumPy array is not writable', UserWarning,
                        module='fastai.torch_core')
