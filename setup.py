"""Packaging: loose ranges for `pip install .`; requirements.lock pins what `make venv` installs."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
INIT = (HERE / "src/learned_aggregation/__init__.py").read_text(encoding="utf-8")
README = HERE / "README.md"

EXTRAS = {
    "tfds": ["tensorflow-datasets", "array-record"],  # image sets in TFDS's format, read without TensorFlow
    "huggingface": ["datasets"],  # data sets that save_to_disk wrote
    "video": ["av"],  # video files; folders of frames need nothing
    "stream": ["grain"],  # data too large for the device
    "flower": ["flwr>=1.41"],  # the message API
    "test": ["beartype", "hypothesis", "pytest", "pytest-xdist"],
}


class BuildWithPretrained(build_py):
    """Ships checkpoints/pretrained/ inside the package; an editable installation reads it where it is."""

    def run(self):
        super().run()
        pretrained = HERE / "checkpoints" / "pretrained"
        if pretrained.is_dir() and not self.editable_mode:
            target = Path(self.build_lib) / "learned_aggregation" / "_pretrained"
            shutil.copytree(pretrained, target, dirs_exist_ok=True)


setup(
    name="learned-aggregation",
    version=re.search(r'__version__ = "(.+)"', INIT).group(1),
    description="Train, test and use learned server-side optimizers for federated training",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"learned_aggregation.kernels": ["*.cc", "*.h"]},
    cmdclass={"build_py": BuildWithPretrained},
    install_requires=[
        "jax>=0.10,<0.12",
        "flax",
        "optax",
        "orbax-checkpoint",
        # The official distribution of the mmengine package without OpenCV; `import mmengine` is the same.
        "mmengine-lite",
        "scikit-learn",
        "matplotlib",
        "rich",
        "wandb",
        "safetensors",
        "jaxtyping",
    ],
    extras_require=EXTRAS | {"all": sorted({package for extra in EXTRAS.values() for package in extra})},
    entry_points={"console_scripts": ["learned-aggregation = learned_aggregation.cli:main"]},
)
