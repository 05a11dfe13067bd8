"""Bundles in the structures of the model zoo, with random weights and small networks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

DENSENET = {
    "_target_": "DenseNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 4,
    "init_features": 8,
    "growth_rate": 4,
    "block_config": [2, 2],
}
UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}
LOAD = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
]
DATA = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "dataset_dir": "/given/when/run",
    "device": "$torch.device('cpu')",
    "network": "$@network_def.to(@device)",
    "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': path} for path in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {
        "_target_": "DataLoader",
        "dataset": "@dataset",
        "batch_size": 1,
        "shuffle": False,
        "num_workers": 0,
    },
}
EVALUATOR = {
    "_target_": "SupervisedEvaluator",
    "device": "@device",
    "val_data_loader": "@dataloader",
    "network": "@network",
    "inferer": "@inferer",
    "postprocessing": "@postprocessing",
    "val_handlers": "@handlers",
}
CHECKPOINT = {
    "_target_": "CheckpointLoader",
    "load_path": "$@bundle_root + '/models/model.pt'",
    "load_dict": {"model": "@network"},
}


def segmentation() -> dict[str, Any]:
    """As spleen_ct_segmentation: windows, weights by a handler, results inverted and saved."""
    return {
        **DATA,
        "output_dir": "$@bundle_root + '/eval'",
        "network_def": UNET,
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                *LOAD,
                {"_target_": "Spacingd", "keys": "image", "pixdim": [3.0, 3.0, 3.0]},
                {"_target_": "ScaleIntensityd", "keys": "image"},
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [8, 8, 8],
            "sw_batch_size": 4,
            "overlap": 0.5,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "meta_key_postfix": "meta_dict",
                    "nearest_interp": False,
                    "to_tensor": True,
                },
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "print_log": False,
                },
            ],
        },
        "handlers": [CHECKPOINT, {"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {**EVALUATOR, "amp": True},
        "run": ["$setattr(torch.backends.cudnn, 'benchmark', True)", "$@evaluator.run()"],
    }


def classification() -> dict[str, Any]:
    """As classification_template: handlers of another name, no output_dir, logits to a file."""
    return {
        **DATA,
        "network_def": DENSENET,
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                *LOAD,
                {"_target_": "ScaleIntensityd", "keys": "image"},
                {"_target_": "Resized", "keys": "image", "spatial_size": [16, 16, 16]},
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "FromMetaTensord", "keys": "pred"},
                {
                    "_target_": "SaveClassificationd",
                    "keys": "pred",
                    "saver": None,
                    "output_dir": "$@bundle_root",
                    "filename": "predictions.csv",
                },
            ],
        },
        "val_handlers": [{**CHECKPOINT, "_disabled_": False}],
        "evaluator": {**EVALUATOR, "val_handlers": "@val_handlers"},
        "run": ["$@evaluator.run()"],
    }


def initialized() -> dict[str, Any]:
    """As endoscopic_inbody_classification: weights in `initialize`, batches, `evaluating`."""
    config = classification()
    del config["run"], config["val_handlers"], config["evaluator"]["val_handlers"]
    return {
        **config,
        "output_dir": "$@bundle_root + '/results'",
        "dataloader": {**DATA["dataloader"], "batch_size": 2},
        "checkpointloader": CHECKPOINT,
        "initialize": ["$@checkpointloader(@evaluator)"],
        "evaluating": ["$@evaluator.run()"],
    }


def multilabel() -> dict[str, Any]:
    """As brats_mri_segmentation: a file for each channel, a sigmoid on each, nested ids."""
    config = segmentation()
    return {
        **config,
        "options": {"overlap": 0.25, "windows": 2},
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
        "network_def": {**UNET, "in_channels": 2, "out_channels": 3},
        "dataset": {
            **DATA["dataset"],
            "data": "$[{'image': [path, path]} for path in @datalist]",
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True},
            ],
        },
        "inferer": {
            **config["inferer"],
            "roi_size": [16, 16, 16],
            "sw_batch_size": "@options#windows",
            "overlap": "$@options#overlap",
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
            ],
        },
    }


def slices() -> dict[str, Any]:
    """As ventricular_short_axis_3label: a network of two axes over the slices of a scan."""
    return {
        **segmentation(),
        "network_def": {**UNET, "spatial_dims": 2},
        "inferer": {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2},
    }


KINDS = {
    "segmentation": segmentation,
    "classification": classification,
    "initialized": initialized,
    "multilabel": multilabel,
    "slices": slices,
}


def write_bundle(root: Path, config: dict[str, Any], classes: Sequence[str] = ()) -> Path:
    """The bundle in a folder, with random weights that let several classes win somewhere."""
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs/inference.json").write_text(json.dumps(config, indent=1))
    names = {str(i): name for i, name in enumerate(classes)}
    outputs = {"pred": {"channel_def": names}} if classes else {}
    metadata = {"version": "0.1.0", "network_data_format": {"inputs": {}, "outputs": outputs}}
    (root / "configs/metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(1)
    network = ConfigParser({"network_def": config["network_def"]}).get_parsed_content("network_def")
    torch.save(network.state_dict(), root / "models/model.pt")
    return root
