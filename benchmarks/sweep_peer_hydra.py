"""The same fake trials by hydra-ray-launcher, in an environment of its own; run by sweep_peers.py.

python sweep_peer_hydra.py -m hydra/launcher=ray number=0,1,2 folder=FOLDER 'words="steps=2 ...|..."'
"""

from pathlib import Path

import hydra
from fake_trials import Words, work
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

ConfigStore.instance().store("peer", {"number": 0, "folder": "", "words": ""})


@hydra.main(version_base="1.3", config_path=None, config_name="peer")
def main(config: DictConfig) -> None:
    """One trial; its words are separated from those of the next by a bar."""
    work(Path(config.folder, str(config.number)), Words.read(config.words.split("|")[config.number].split()))


if __name__ == "__main__":
    main()
