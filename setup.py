"Packaging: every fact is in settings.ini, once."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

here = Path(__file__).parent
config = ConfigParser(delimiters='=')
config.read(here/'settings.ini', encoding='utf-8')
settings = config['DEFAULT']

setup(
    name=settings['lib_name'],
    version=settings['version'],
    description=settings['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    keywords=settings['keywords'].split(),
    author=settings['author'],
    license=settings['license'],
    python_requires='>=' + settings['min_python'],
    packages=['fastai_losses'],
    package_data={'fastai_losses': ['py.typed']},
    install_requires=settings['requirements'].split(),
    extras_require={'dev': settings['dev_requirements'].split()},
    entry_points={
        'console_scripts': settings['console_scripts'].split(),
        'nbdev': ['fastai_losses=fastai_losses._modidx:d'],
    },
)
