"""`kubectl chatbot cost`."""

from decimal import ROUND_HALF_UP, Decimal

from chatbot_operator import cost as costs
from chatbot_operator.api import Chatbot, Phase
from chatbot_operator.settings import Settings
from kubectl_chatbot import gather, screen
from kubectl_chatbot.client import Client
from kubectl_chatbot.findings import Unknown
from kubectl_chatbot.forecast import in_phase
from kubectl_chatbot.settings import known_settings, read_prices


def one(client: Client, namespace: str, name: str, phase: Phase | None, prices: str | None, *, as_json: bool) -> int:
    """Row by row."""
    chatbot = gather.parsed(gather.raw_chatbot(client, namespace, name))
    rates = costs.rates(_settings(client, [chatbot], prices))
    spec = in_phase(chatbot, phase).spec if phase else chatbot.spec
    lines, currency = costs.lines(spec, rates), rates.currency
    total = sum((line.amount for line in lines), Decimal(0))
    if as_json:
        items = [{"item": x.item, "count": x.count, "each": x.each, "monthly": _text(x.amount)} for x in lines]
        about = {"name": name, "namespace": namespace, "phase": spec.phase}
        screen.as_json({**about, "currency": currency, "items": items, "monthly": _text(total)})
        return 0
    rows = [(x.item, str(x.count), x.each, _text(x.amount)) for x in lines]
    head = ("ITEM", "COUNT", "EACH", f"{currency} A MONTH")
    screen.table(head, [*rows, ("sum", "", "", _text(total))], right=(head[1], head[-1]))
    screen.say("\nAt the fewest pods; without what a hosted provider charges for answers.")
    return 0


def all_of(client: Client, namespace: str | None, prices: str | None, *, as_json: bool) -> int:
    """A line for each Chatbot, and the sum."""
    found = [gather.parsed(raw) for raw in gather.chatbots(client, namespace)]
    rates = costs.rates(_settings(client, found, prices))
    rows = [(c.metadata.namespace, c.metadata.name, c.spec.phase, costs.monthly(c.spec, rates)) for c in found]
    total = sum((row[-1] for row in rows), Decimal(0))
    if as_json:
        items = [{"namespace": s, "name": n, "phase": p, "monthly": _text(m)} for s, n, p, m in rows]
        screen.as_json({"currency": rates.currency, "items": items, "monthly": _text(total)})
        return 0
    shown = [(s, n, p, _text(m)) for s, n, p, m in rows]
    head = ("NAMESPACE", "NAME", "PHASE", f"{rates.currency} A MONTH")
    screen.table(head, [*shown, ("sum", "", "", _text(total))], right=head[-1:])
    return 0


def _settings(client: Client, chatbots: list[Chatbot], prices: str | None) -> Settings:
    """Those of the operator, or of the file. Says so where it is likely that the operator has others."""
    operators = gather.operators(client)
    namespace = chatbots[0].metadata.namespace if chatbots else ""
    known = known_settings(operators, namespace)
    if prices is not None:
        return read_prices(prices).over(known)
    rates = costs.rates(known)
    told = [c for c in chatbots if c.status.cost and c.status.observed_generation == c.metadata.generation]
    if isinstance(operators, Unknown) and any(c.status.cost != costs.estimate(c.spec, rates) for c in told):
        screen.tell(
            f"{operators.reason} These are the default prices, and the operator's differ: see status.cost, or give "
            "its prices by --prices.",
            "yellow",
        )
    return known


def _text(amount: Decimal) -> str:
    return str(amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP))
