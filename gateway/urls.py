"""Every URL that Django answers. The relay's are in proxy/asgi.py, health's in gateway/health.py."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from accounts.api.audit import Audit
from accounts.api.keys import ApiKeys, SecurityKeys
from accounts.api.limits import Budgets, Limits
from accounts.api.paths import Paths
from accounts.api.tenants import Members, Tenants
from gateway import pages, playground
from gateway.dashboard import views
from gateway.metrics import Metrics
from gateway.sign_in.pages import admin_login
from proxy.api.calls import OpenCalls, Usage
from proxy.api.models import Models, Prices, Routes
from proxy.api.organization import COSTS, KINDS, Buckets
from proxy.api.upstreams import Upstreams
from threads.api import Threads

admin.site.site_header = admin.site.site_title = "Tollgate"

MANAGED = (
    *(Tenants, Members, ApiKeys, SecurityKeys, Limits, Budgets, Upstreams, Models, Routes, Prices),
    *(Usage, OpenCalls, Threads, Audit),
)

management = Paths()
for resource in MANAGED:
    management.register(resource.resource, resource, basename=resource.resource)

urlpatterns = [
    path("", pages.home, name="home"),
    path("favicon.ico", RedirectView.as_view(url="/static/gateway/icon.svg")),
    path("playground", RedirectView.as_view(url="/playground/", query_string=True)),
    path("playground/", playground.page, name="playground"),
    path("playground/key/", playground.key),
    path("dashboard", RedirectView.as_view(url="/dashboard/")),
    path("dashboard/", views.dashboard, name="dashboard"),
    path("dashboard/calls/", views.calls, name="calls"),
    path("dashboard/live/", views.live, name="live"),
    re_path("^metrics/?$", Metrics.as_view()),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/login/", admin_login),
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    path("admin/", admin.site.urls),
    path("accounts/", include("gateway.sign_in.urls")),
    path("api/", include(management.urls)),
    path("api/schema/", SpectacularJSONAPIView.as_view(authentication_classes=()), name="schema"),
    path(
        "api/docs/",
        SpectacularSwaggerSplitView.as_view(authentication_classes=(), template_name="gateway/api_docs.html"),
        name="docs",
    ),
    re_path(r"^(?:v1/)?organization/costs/?$", Buckets.as_view(kind=COSTS)),
    *(
        re_path(rf"^(?:v1/)?organization/usage/{name}/?$", Buckets.as_view(kind=kind))
        for name, kind in KINDS.items()
    ),
    re_path("", pages.nowhere),  # here rather than by handler404, so that debugging shows the same
]

handler400 = pages.bad_request
handler403 = pages.forbidden
handler404 = pages.nowhere
handler429 = pages.too_many
handler500 = pages.server_error
