"""What the site keeps."""

from django.db import models


class Article(models.Model):  # type: ignore[misc]
    """A page that everybody reads."""

    slug = models.SlugField(unique=True)
    text = models.TextField()


class Letter(models.Model):  # type: ignore[misc]
    """What a visitor sent through the contact form."""

    text = models.TextField()
