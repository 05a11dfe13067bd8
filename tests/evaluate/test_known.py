"""A check that lies in a folder: told with the maps that it is of, and with no others."""

import dataclasses
from pathlib import Path

import torch
from torch import nn

import medsal
from medsal.evaluate import check
from medsal.export import sidecar
from medsal.export.page import kept_checks
from medsal.origin import Origin


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten())


def test_a_check_is_told_with_its_own_maps(tmp_path: Path) -> None:
    scan, model = tmp_path / "scan.nii.gz", net()
    scan.write_bytes(b"a scan")
    found = check(
        model, torch.rand(1, 1, 30), medsal.GradCAM("0"), repeats=2, random_maps=1, steps=2
    )
    result = dataclasses.replace(found.result, origins=(Origin(str(scan), None, None),))
    dataclasses.replace(found, result=result).save(tmp_path, "case")
    told = kept_checks(tmp_path, "case", [result])
    (said,) = told.values()
    assert said["Passed"] == found.passed
    assert said["Summary"]["faithfulness"] == found.findings[-1].line
    assert said["Words"]["faithfulness"] == found.findings[-1].words
    assert sidecar(result, checks=told)["SanityChecks"] == said
    assert sidecar(result)["SanityChecks"] is None
    signed = dataclasses.replace(result, method=medsal.GradCAM("0", signed=True))
    assert sidecar(signed, checks=told)["SanityChecks"] is None
    assert kept_checks(tmp_path, "other", [result]) == {}
    weights = dataclasses.replace(result.model, sha256="of other weights")
    assert kept_checks(tmp_path, "case", [dataclasses.replace(result, model=weights)]) == {}
    scan.write_bytes(b"another scan of this name")
    assert kept_checks(tmp_path, "case", [result]) == {}
