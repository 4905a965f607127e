"""The paper's equations, slowly: plain NumPy in float64, one element at a time."""

import math

import numpy as np

MISSING = -1


def contrast(m, n):
    """Eq. 8, a number."""
    if m < 0.5:
        return (2 * m) ** n / 2
    return 1 - (2 * (1 - m)) ** n / 2


def tone_curve(m, n, beta):
    """Eq. 7, a number."""
    return (1 + beta) * contrast(m, n) - beta


def elementwise(function, *arrays):
    """Applies a function of numbers to arrays that broadcast."""
    arrays = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in arrays))
    values = [function(*numbers) for numbers in zip(*(x.flat for x in arrays), strict=True)]
    return np.reshape(values, arrays[0].shape)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def softplus(z):
    return max(z, 0) + math.log1p(math.exp(-abs(z)))


def masks(features, kernel, bias):
    """M^k: (attribute, batch, height, width, channel)."""
    z = [features.astype(np.float64) @ kernel[k] + bias[k] for k in range(len(kernel))]
    return elementwise(sigmoid, z)


def pooled(features, kernel, bias, n, beta):
    """The mean over positions of (1 + g(M^k; n, beta)) * f: (batch, attribute, channel)."""
    batch, height, width, channels = features.shape
    attributes = len(kernel)
    n, beta = (np.broadcast_to(x, (batch, attributes, channels)) for x in (n, beta))
    mask = masks(features, kernel, bias)
    result = np.zeros((batch, attributes, channels))
    for b, k, c in np.ndindex(*result.shape):
        for h, w in np.ndindex(height, width):
            g = tone_curve(mask[k, b, h, w, c], n[b, k, c], beta[b, k, c])
            result[b, k, c] += (1 + g) * features[b, h, w, c] / (height * width)
    return result


def logits(features, heads, n=1.0, beta=0.0):
    """Eq. 9 (and with n = 1, beta = 0 what Eq. 1 classifies): (batch, attribute)."""
    p = pooled(features, heads["mask"]["kernel"], heads["mask"]["bias"], n, beta)
    weight, offset = heads["classifier"]["kernel"], heads["classifier"]["bias"]
    result = np.zeros(p.shape[:2])
    for b, k in np.ndindex(*result.shape):
        result[b, k] = p[b, k] @ weight[k, :, 0] + offset[k, 0]
    return result


def multilabel_logits(features, kernel, bias):
    """f_m: global average pooling, then one linear layer."""
    batch, height, width, channels = features.shape
    mean = np.zeros((batch, channels))
    for h, w in np.ndindex(height, width):
        mean += features[:, h, w] / (height * width)
    return mean @ kernel + bias


def cross_entropy(z, labels):
    """Eq. 1-2 and 3-4: -y log p - (1 - y) log(1 - p), summed over k, a mean over the batch."""
    total = 0.0
    for b, k in np.ndindex(*z.shape):
        if labels[b, k] != MISSING:
            y = labels[b, k]
            total += y * softplus(-z[b, k]) + (1 - y) * softplus(z[b, k])
    return total / len(z)


def reconstruction_error(reconstruction, images, reduction):
    """Eq. 5."""
    total = 0.0
    for index in np.ndindex(*images.shape):
        total += (float(reconstruction[index]) - float(images[index])) ** 2
    return total / (images.size if reduction == "mean" else len(images))


def mask_penalty(mask, reduction):
    """|M|_1 of masks (attribute, batch, height, width, channel)."""
    total = sum(abs(float(m)) for m in mask.flat)
    return total / (mask.size if reduction == "mean" else mask.shape[1])
