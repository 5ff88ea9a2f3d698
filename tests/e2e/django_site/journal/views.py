"""The site's pages. `rendered` in each tells one rendering from another."""

from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from .models import Article, Letter


def _page(request: HttpRequest, template: str, **values: Any) -> HttpResponse:
    return render(request, template, {"rendered": uuid4().hex, **values})


def home(request: HttpRequest) -> HttpResponse:
    """Show all articles, and who reads."""
    return _page(request, "home.html", articles=Article.objects.order_by("slug"))


def article(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one article, and who reads."""
    return _page(request, "article.html", article=get_object_or_404(Article, slug=slug))


def write(request: HttpRequest, slug: str) -> HttpResponse:
    """Write an article; for logged-in visitors."""
    if request.method == "POST":
        Article.objects.update_or_create(slug=slug, defaults={"text": request.POST["text"]})
        return redirect("home")
    return _page(request, "write.html", slug=slug)


def contact(request: HttpRequest) -> HttpResponse:
    """Take a letter, and thank for it on the next page (a message in a cookie, or in the session)."""
    if request.method == "POST":
        Letter.objects.create(text=request.POST["text"])
        messages.success(request, f"Thank you for: {request.POST['text']}")
        return redirect("contact")
    return _page(request, "contact.html", count=Letter.objects.count())


def me(request: HttpRequest) -> HttpResponse:
    """Show a logged-in visitor to himself, counting his visits in his session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return _page(request, "me.html", visits=request.session["visits"])
