"""What goes wrong with a request, in the shape in which OpenAI's servers tell it."""

from __future__ import annotations

from typing import Any

TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class ApiError(Exception):
    """Why a request is not answered, or not to its end."""

    def __init__(self, status: int, sentence: str, param: str | None = None, code: str | None = None) -> None:
        """param: the field that is at fault. code: a word for programs."""
        super().__init__(sentence)
        self.status, self.sentence, self.param, self.code = status, sentence, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.sentence, "type": kind, "param": self.param, "code": self.code}}


def wrong(param: str, sentence: str) -> ApiError:
    """A field that holds what it may not."""
    return ApiError(400, f"{param}: {sentence}", param)
