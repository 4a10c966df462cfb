"""The trace of the social posts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elastickv.schemas.base import Count, Model, Number, Text, field, version
from elastickv.schemas.parts import OnBackend


class PublishedNumber(Model):
    """A number in a post and the record fields that it comes from."""

    text: Text = field("the number as written in the post")
    value: Number
    file: Text = field("path relative to the results folder")
    fields: list[Annotated[str, Field(pattern="^/")]] = field("JSON pointers (RFC 6901) into that file", min_length=1)
    how: Literal["value", "count"] = field(
        "value: the number is the value of the single field; count: it is the number of fields"
    )


class Post(Model):
    """A post and its numbers."""

    text: Text
    length: int = field("X: weighted characters; LinkedIn: characters", "characters", ge=1)
    limit: Count = field("limit of the network", "characters")
    numbers: list[PublishedNumber]


class Variant(Post):
    """A post that was not published."""

    network: Literal["x", "linkedin"]


class Posts(Model):
    """One post per network."""

    x: Post
    linkedin: Post


class Social(Model):
    """Every number in the posts with the record field that it comes from, and the variants that were not published."""

    schema_: Literal["social/1"] = version("social/1")
    device: str | None
    backend: OnBackend | None
    golden: list[Text] = field("ids of the golden cases")
    posts: Posts
    variants: list[Variant]


ROOT, TITLE = Social, "Trace of the social posts"
