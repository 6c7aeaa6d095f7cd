"""Every URL that Django answers. The relay's are in proxy/asgi.py, health's in gateway/health.py."""

from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView

from gateway import pages

admin.site.site_header = admin.site.site_title = "Tollgate"

urlpatterns = [
    path("", pages.home, name="home"),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
    re_path("", pages.nowhere),  # here rather than by handler404, so that debugging shows the same
]

handler400 = pages.bad_request
handler403 = pages.forbidden
handler404 = pages.nowhere
handler500 = pages.server_error
