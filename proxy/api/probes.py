"""What the management API tells of an upstream that was asked, and of how it has been doing."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.api.fields import Body
from proxy.health import State
from proxy.models import Upstream

MOST_ADOPTED = 200


class HealthBody(serializers.Serializer[Any]):
    """How it did in the last five minutes, as the processes that make calls saw it."""

    state = serializers.ChoiceField(
        [state.value for state in State],
        help_text="cooling: some of its models are tried last now; idle: nobody asked it.",
    )
    processes = serializers.IntegerField(help_text="That make calls.")
    answered = serializers.IntegerField(help_text="Calls that it took.")
    failed = serializers.IntegerField(help_text="Attempts that it did not take.")
    control_tokens = serializers.IntegerField(help_text="Of gpt-oss, taken out of its answers.")
    last_failure = serializers.CharField(allow_blank=True, help_text="A status, or what happened instead.")
    last_failure_at = serializers.DateTimeField(allow_null=True)
    cooling = serializers.DictField(
        child=serializers.DateTimeField(), help_text="Models by its own names, and until when."
    )


@extend_schema_field(HealthBody)
class HealthField(serializers.Field[Any, Any, Any, Any]):
    """Of an upstream; the resource has asked for it (`context_of`)."""

    def __init__(self) -> None:
        super().__init__(read_only=True, source="*")

    def to_representation(self, value: Upstream) -> Any:
        return HealthBody(self.context["healths"][value.pk]).data


class ProbeBody(serializers.Serializer[Any]):
    """What came of asking it now."""

    reachable = serializers.BooleanField(help_text="Something answered.")
    well = serializers.BooleanField(help_text="It can be called, as far as that shows.")
    message = serializers.CharField()
    status = serializers.IntegerField(allow_null=True)
    milliseconds = serializers.IntegerField(allow_null=True)


class ListedBody(serializers.Serializer[Any]):
    """A model that it lists."""

    name = serializers.CharField()
    routed_from = serializers.ListField(
        child=serializers.CharField(), help_text="The names of ours that lead there."
    )


class DiscoveryBody(ProbeBody):
    """…, and the models that it lists."""

    models = ListedBody(many=True)


class Chosen(Body):
    """Which of them to make models of ours."""

    models = serializers.ListField(
        child=serializers.CharField(max_length=200), min_length=1, max_length=MOST_ADOPTED
    )


class AdoptedBody(serializers.Serializer[Any]):
    """What was made; what was there already is not in it."""

    models = serializers.ListField(child=serializers.CharField(), help_text="Their names.")
    routes = serializers.ListField(child=serializers.UUIDField())
