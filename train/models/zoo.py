"""torchvision's models and the weights that torchvision publishes for them."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from pathlib import Path

import torch
from torch import Tensor, nn

from fbkit.errors import UserError
from fbkit.train.vision import import_torchvision
from fbkit.train.weights import read_user_weights


def torchvision_model(name: str, classes: int) -> nn.Module:
    """A torchvision model at torchvision's random start, drawn from torch's generator."""
    import_torchvision()
    from torchvision.models import get_model

    model: nn.Module = get_model(name, weights=None, num_classes=classes)
    return model


def pretrained_weights(name: str) -> tuple[dict[str, Tensor], str]:
    """torchvision's default weights of a model and the file they are in; downloaded where torch has not cached them.

    Raises:
        UserError: they cannot be downloaded, or the cached file is not whole.
    """
    import_torchvision()
    from torchvision.models import get_model_weights

    url: str = get_model_weights(name).DEFAULT.url
    # Not torchvision's own download: what lies in the cache is read as carefully as any other file.
    file = Path(torch.hub.get_dir(), "checkpoints", Path(urllib.parse.urlsplit(url).path).name)
    if not file.exists():
        checksum = re.search(r"-([0-9a-f]+)\.pth$", file.name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), checksum.group(1) if checksum else None)
        except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: another checksum
            raise UserError(
                f"model.init = 'pretrained': cannot download {url} ({error}); put it there as {file}, "
                "or set model.init to a file of weights"
            ) from error
    return read_user_weights(file), str(file)
