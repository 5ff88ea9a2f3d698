"""Where the pages are."""

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("articles/<slug:slug>/", views.article),
    path("articles/<slug:slug>/write/", login_required(views.write)),
    path("contact/", views.contact, name="contact"),
    path("me/", login_required(views.me)),
    path("login/", LoginView.as_view(template_name="login.html")),
    path("logout/", LogoutView.as_view()),
]
