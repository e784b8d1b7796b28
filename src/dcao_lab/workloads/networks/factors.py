"""Matrix factorisation with biases (Koren et al. 2009)."""

from torch import Tensor, nn


class Factors(nn.Module):
    """Factors and a bias of each user and each item; a gradient moves only those in its batch.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        rank: Number of factors.
        mean: Rating of a pair before anything is learned.
    """

    def __init__(self, num_users: int, num_items: int, rank: int, mean: float) -> None:
        super().__init__()
        self.factors = nn.ModuleList(nn.Embedding(number, rank) for number in (num_users, num_items))
        self.biases = nn.ModuleList(nn.Embedding(number, 1) for number in (num_users, num_items))
        self.mean = mean
        for table, bias in zip(self.factors, self.biases, strict=True):
            nn.init.normal_(table.get_parameter("weight"), std=0.05)
            nn.init.zeros_(bias.get_parameter("weight"))

    def forward(self, pairs: Tensor) -> Tensor:
        """Ratings (batch) of pairs (batch, 2)."""
        (user, item), (of_user, of_item) = self.factors, self.biases
        bias = (of_user(pairs[:, 0]) + of_item(pairs[:, 1])).squeeze(-1)
        rating: Tensor = self.mean + bias + (user(pairs[:, 0]) * item(pairs[:, 1])).sum(-1)
        return rating
