import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
version = re.search(r"__version__ = '(.*)'", (here / 'zeroinit' / '__init__.py').read_text())[1]

setup(
    name='zeroinit',
    version=version,
    description='What batch normalization does for residual networks, and what can replace it: ZeroInit, Fixup and '
                'their comparison, in JAX.',
    long_description=(here / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11,<3.14',
    packages=[*find_packages(include=['zeroinit', 'zeroinit.*']), 'zeroinit.configs'],
    package_dir={'zeroinit.configs': 'configs'},  # which people read and copy at the top of the checkout
    entry_points={'console_scripts': ['zeroinit = zeroinit.__main__:main']},
    package_data={'zeroinit.report': ['paper_results.json', 'page.css', 'page.js']},
    install_requires=[
        'absl-py>=2.1',
        'array-record>=0.8',
        'clu>=0.0.12',
        'etils[epath]>=1.10',
        'flax>=0.12',
        'google-crc32c>=1.6',  # the checksums of TFRecord
        'grain>=0.2.15',
        'importlib_resources>=6',  # tensorflow-datasets needs it and does not say so
        'jax>=0.10',
        'matplotlib>=3.9',
        'ml-collections>=1.1',
        'numpy>=2',
        'opencv-python-headless>=4.13',
        'optax>=0.2.8',
        'orbax-checkpoint>=0.12,<1',
        'pillow>=11',
        'pyarrow>=18',
        'rich>=13',
        'scikit-learn>=1.6',  # the embedded digits
        'scipy>=1.13',  # the labels in ImageNet's devkit
        'tensorboardX>=2.6.2',
        'tensorflow-datasets>=4.9.9',  # reads without TensorFlow
    ],
    extras_require={
        'test': ['gcsfs>=2025.2', 'hypothesis>=6.100', 'pytest>=8', 'pytest-xdist>=3.8', 'ruff>=0.12',
                 'submitit>=1.5.3'],
        'parity': ['torch>=2.6'],
        'cuda': ['jax[cuda12]>=0.10'],
        'tpu': ['jax[tpu]>=0.10', 'gcsfs>=2025.2'],
        'tf': ['tensorflow-cpu>=2.19'],
        'slurm': ['submitit>=1.5.3'],
        'docs': ['mkdocs>=1.6,<2', 'mkdocs-material>=9.6,<10', 'mkdocstrings[python]>=0.30', 'ruff>=0.12'],
        'notebook': ['ipykernel>=6.29', 'jupyterlab>=4', 'jupytext>=1.17', 'nbclient>=0.10', 'treescope>=0.1.9'],
    },
)
