"""Prior correction: posteriors divided by the tokens' average posteriors (priors) to a power, the prior scale.

A network's posteriors contain how frequent each token was in training, which a language model knows better. Divided by
it they are scaled likelihoods, as in hybrid systems (Bourlard & Morgan 1994, "Connectionist speech recognition"); for
CTC: Miao et al. 2015, "EESEN: end-to-end speech recognition using deep RNN models and WFST-based decoding", and Zeyer
et al. 2017, "CTC in the context of generalized full-sum HMM training". Priors as the average of the network's outputs:
Manohar et al. 2015, "Semi-supervised maximum mutual information training of deep neural network acoustic models".

The blank is divided like the other tokens: leaving it out gives the same error rates. The result is normalized again,
which changes no decision of the beam (it adds the same to all that it compares), and keeps confidences probabilities.
"""

import numpy as np


def divide_by_priors(log_probs: np.ndarray, log_priors: np.ndarray) -> np.ndarray:
    """ln(p / prior), normalized: rows sum to 1 as probabilities, and each depends on its own frame alone.

    log_probs: (frames, vocabulary). log_priors: (vocabulary,), finite, multiplied by the prior scale.
    """
    divided = np.subtract(log_probs, log_priors, order="C")
    total = np.logaddexp.reduce(divided, axis=1, keepdims=True)
    return divided - np.where(np.isinf(total), 0.0, total)  # a row may allow no symbol at all
