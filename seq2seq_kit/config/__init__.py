"""What a run is: frozen, checked sections, from and to YAML. Imports no TensorFlow."""

from seq2seq_kit.config.adaptation import AdaptationConfig
from seq2seq_kit.config.augmentation import AugmentationConfig
from seq2seq_kit.config.decoding import DecodingConfig, suggest_option
from seq2seq_kit.config.load import (
    SavedConfig,
    load_config,
    load_saved_config,
    package_versions,
    save_config,
)
from seq2seq_kit.config.sections import (
    Config,
    CorpusConfig,
    DataConfig,
    EarlyStoppingConfig,
    InitConfig,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
    VocabularyConfig,
)

__all__ = [
    "AdaptationConfig",
    "AugmentationConfig",
    "Config",
    "CorpusConfig",
    "DataConfig",
    "DecodingConfig",
    "EarlyStoppingConfig",
    "InitConfig",
    "ModelConfig",
    "SavedConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "VocabularyConfig",
    "load_config",
    "load_saved_config",
    "package_versions",
    "save_config",
    "suggest_option",
]
