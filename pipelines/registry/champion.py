"""Who is champion: decided first, then carried out on the aliases, and completed by whoever comes next.

A command that moves the champion reads all decisions and finishes the last one where somebody was killed on the way
(`settle`), then judges, then writes its own decision under exactly the next number (`decide`), and only then moves the
aliases. Of two that judged the same champion one gets the number, the other is refused and has moved nothing.

The aliases follow the last decision: `champion` names its version, `previous` the one before, and never what is live.
Whoever has set them reads the decisions again and follows a later one, so that a command that was paused for long ends
with what was decided meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from features.errors import BlockedError, ConfigError, IntegrityError, TryAgainError
from pipelines.base.progress import say
from pipelines.registry.decisions import Action, Decision, Decisions, State, last_move
from pipelines.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version
from pipelines.registry.tracking_errors import tracking_errors

__all__ = ["Champion", "Standing"]

_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Standing:
    """What a decision is judged against.

    Attributes:
        number: Of the last decision that moved the champion; 0 if there is none.
        champion: The version that is live; None if there is none.
        completed: The decision that was found unfinished and completed just now; None if there was none.
    """

    number: int
    champion: Version | None
    completed: Decision | None = None


class Champion:
    """The champion of a registry.

    Args:
        registry: Versions, aliases and bundles.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._model = registry.model
        self.decisions = Decisions(registry.config, registry.client)

    def settle(self) -> Standing:
        """Finish the last decision if it was left unfinished, and read what is champion by it.

        Raises:
            IntegrityError: The aliases were moved by hand.
            TryAgainError: The registry does not answer.
        """
        move, completed = last_move(self.decisions.read()), None
        if move is not None and move.state is State.INTENDED:
            completed = self._finish(move)
            move = last_move(self.decisions.read())
        elif move is not None:
            self._refuse_moved_by_hand(move)
        return replace(self._standing(move), completed=completed)

    def peek(self) -> Standing:
        """What is champion by the last decision; nothing is finished or moved.

        Raises:
            IntegrityError: The aliases were moved by hand.
            TryAgainError: The last decision is unfinished, or the registry does not answer.
        """
        move = last_move(self.decisions.read())
        if move is not None and move.state is State.INTENDED:
            raise TryAgainError(
                f"decision {move.number} ({move.words(self._model)}) is being carried out, or was left unfinished: "
                "`nightrank registry repair` completes it. Then run this again."
            )
        if move is not None:
            self._refuse_moved_by_hand(move)
        return self._standing(move)

    def _refuse_moved_by_hand(self, move: Decision) -> None:
        if differences := self.differences(move):
            raise IntegrityError(
                f"{'; '.join(differences)}: moved by hand, or left by a command that was killed. `nightrank registry "
                "repair` sets the aliases as was decided; `nightrank registry repair --adopt --reason TEXT` keeps the "
                "champion as it is, and says so in the history."
            )

    def _standing(self, move: Decision | None) -> Standing:
        if move is None:
            return Standing(0, self._registry.find(CHAMPION))
        return Standing(move.number, self._registry.find(move.after))

    def decide(
        self,
        action: Action,
        version: Version,
        standing: Standing,
        *,
        reason: str = "",
        figures: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Write the decision that a version becomes champion, and carry it out.

        Args:
            action: What it is.
            version: Becomes champion; its bundle was verified.
            standing: As it was when the version was judged.
            reason: In the words of whoever decides.
            figures: What was measured.
            policy: What was asked for.

        Raises:
            TryAgainError: Somebody else moved the champion since `standing`, and nothing was moved; or the registry
                ceased to answer after the decision was written, and the next command completes it.
        """
        before = standing.champion.number if standing.champion else None
        now = self._registry.find(CHAMPION)
        if (now.number if now else None) != before:
            raise TryAgainError(
                "somebody else moved the alias `champion` meanwhile. Nothing was moved by this command; look at "
                "`nightrank history`, then run it again."
            )
        intent = Decision(
            action=action,
            before=before,
            after=version.number,
            reason=reason,
            figures=figures or {},
            policy=policy or {},
        )
        written = self.decisions.append(intent, since=standing.number)
        try:
            self._follow()
        except TryAgainError as error:
            raise TryAgainError(
                f"decision {written.number} ({written.words(self._model)}) is written and not carried out yet: the "
                f"next `nightrank promote`, `rollback` or `registry repair` completes it. {error}"
            ) from error
        return written

    def refuse(
        self,
        version: Version,
        standing: Standing,
        *,
        reason: str,
        figures: Mapping[str, Any],
        policy: Mapping[str, Any],
    ) -> Decision:
        """Write that a version was refused; it moves nothing."""
        refusal = Decision(
            action=Action.REFUSED,
            before=standing.champion.number if standing.champion else None,
            after=version.number,
            reason=reason,
            figures=figures,
            policy=policy,
            state=State.DONE,
        )
        return self.decisions.append(refusal, since=standing.number)

    def repair(self) -> Decision | None:
        """Finish an unfinished decision, and set the aliases to the last one; None where nothing was ever decided."""
        move = last_move(self.decisions.read())
        if move is None:
            return None
        if move.state is State.INTENDED:
            self._finish(move)
        else:
            self._follow()
        return last_move(self.decisions.read())

    def adopt(self, reason: str) -> Decision | None:
        """Keep a champion that was made by hand, by a decision that says so; None if it was decided anyway.

        Raises:
            ConfigError: No reason is given.
            BlockedError: No version is champion.
            IntegrityError: Its bundle is not as it was registered.
        """
        if not reason.strip():
            raise ConfigError("--adopt keeps what somebody did by hand: say why, with --reason TEXT.")
        champion, move = self._registry.find(CHAMPION), last_move(self.decisions.read())
        if champion is None:
            raise BlockedError("no version is champion, so that there is none to keep. Name one: nightrank promote.")
        if move is not None and move.after == champion.number:
            self.repair()
            return None
        self._registry.bundle_folder(champion)
        if move is not None and move.state is State.INTENDED:
            self.decisions.mark(move, State.WITHDRAWN, f"{champion.name} was adopted: {reason}")
            move = last_move(self.decisions.read())
        before = move.after if move else self._number(PREVIOUS)
        standing = Standing(move.number if move else 0, None if before is None else self._registry.find(before))
        adoption = Decision(
            action=Action.ADOPT,
            before=standing.champion.number if standing.champion else None,
            after=champion.number,
            reason=reason,
        )
        written = self.decisions.append(adoption, since=standing.number)
        self._follow()
        return written

    def differences(self, move: Decision) -> list[str]:
        """Aliases that name another version than a decision says, in words."""
        return [
            f"the alias `{alias}` names {_named(self._model, now)}, and by decision {move.number} it is "
            f"{_named(self._model, asked)}"
            for alias, asked in self._aliases_of(move).items()
            if (now := self._number(alias)) != asked
        ]

    def _finish(self, move: Decision) -> Decision | None:
        """Complete an unfinished decision, or withdraw it where its version cannot go live; returns the completed."""
        obstacle = self._obstacle(move)
        if obstacle is None:
            self._follow()
            say("an unfinished decision was completed", decision=move.number, was=move.words(self._model))
            return move
        self.decisions.mark(move, State.WITHDRAWN, obstacle)
        if last_move(self.decisions.read()) is None:  # it was the first: back to the champion from before it
            self._set_aliases(replace(move, before=None, after=move.before or ""))
        else:
            self._follow()
        say("an unfinished decision was withdrawn", decision=move.number, was=move.words(self._model), why=obstacle)
        return None

    def _obstacle(self, move: Decision) -> str | None:
        """Why a decision's version cannot go live any more; None if it can."""
        version = self._registry.find(move.after)
        if version is None:
            return f"{self._model}/{move.after} is not in the registry any more"
        try:
            self._registry.bundle_folder(version)
        except IntegrityError as error:
            return str(error)
        return None

    def _follow(self) -> None:
        """Set the aliases to the last decision, until no later one has come meanwhile, and mark it as done.

        NOTE: every decision before the last is finished, since nobody writes one before finishing those that are there.

        Raises:
            TryAgainError: Others keep moving the aliases.
        """
        for _ in range(_ROUNDS):
            move = last_move(self.decisions.read())
            if move is None:
                return
            self._set_aliases(move)
            after = last_move(self.decisions.read())
            if after is not None and after.number == move.number and not self.differences(move):
                if move.state is State.INTENDED:
                    self.decisions.mark(move, State.DONE)
                return
        raise TryAgainError("the aliases are being moved by somebody else all the time. Look at `nightrank history`.")

    def _set_aliases(self, move: Decision) -> None:
        """Set what differs, in an order in which `previous` never names the champion, whenever this is killed."""
        asked = self._aliases_of(move)
        champion, previous = asked[CHAMPION], asked[PREVIOUS]
        if champion is not None and self._number(PREVIOUS) == champion:
            self._set(PREVIOUS, None)
        self._set(CHAMPION, champion)
        self._set(PREVIOUS, previous)
        if champion is not None and self._number(CHALLENGER) == champion:
            self._set(CHALLENGER, None)

    def _aliases_of(self, move: Decision) -> dict[str, str | None]:
        """The versions that `champion` and `previous` name by a decision, None where they name nothing."""
        before = move.before if move.before not in (None, move.after) and self._is_there(move.before) else None
        return {CHAMPION: move.after if self._is_there(move.after) else None, PREVIOUS: before}

    def _is_there(self, number: str | None) -> bool:
        return bool(number) and self._registry.find(str(number)) is not None

    def _number(self, alias: str) -> str | None:
        version = self._registry.find(alias)
        return None if version is None else version.number

    def _set(self, alias: str, number: str | None) -> None:
        """Let an alias name a version, or nothing; an alias that does so already is not written."""
        if self._number(alias) == number:
            return
        with tracking_errors(self._registry.config, "the registry"):
            if number is None:
                self._registry.client.delete_registered_model_alias(self._model, alias)
            else:
                self._registry.client.set_registered_model_alias(self._model, alias, number)


def _named(model: str, number: str | None) -> str:
    return "nothing" if number is None else f"{model}/{number}"
