"""Which fields of a granule make a Dataset, and what masks them: what the SMAP loaders have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py

from smnb.contract import FormatError, ParameterError
from smnb.loaders.smap.fields import ALGORITHMS, OPTIONS, Variable, baseline_algorithm
from smnb.loaders.smap.flags import FLAG_POLICIES, TB_POLICIES, FlagTest, retrieval_tests, surface_tests
from smnb.loaders.smap.granules import Granule, text_of
from smnb.loaders.smap.reading import Role

__all__: list[str] = []


def check_option(who: str, name: str, value: Any, known: Sequence[str]) -> None:
    """Raise `ParameterError` unless an option has a known value."""
    if value not in known:
        raise ParameterError(who, f"unknown {name!r}", got=value, expected=list(known))


def choose_variables(who: str, names: Sequence[str] | str | None, catalogue: dict[str, Variable]) -> list[Variable]:
    """The variables by name, in the catalogue's order; None for all.

    Raises
    ------
    ParameterError
        If a name is unknown or given twice, or there is none.
    """
    if names is None:
        return list(catalogue.values())
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in catalogue]
    if unknown or not names or len(set(names)) != len(names):
        raise ParameterError(
            who, "'variables' holds an unknown name, one twice, or none", got=unknown or names, expected=[*catalogue]
        )
    return [variable for name, variable in catalogue.items() if name in names]


def check_field(where: str, source: h5py.Dataset, variable: Variable, shape: tuple[int, ...]) -> None:
    """Raise `FormatError` if a field has another shape, type or units than it must have."""
    name = source.name.rsplit("/", 1)[-1]
    if source.shape[: len(shape)] != shape:
        raise FormatError(where, f"{name!r} has another shape", got=source.shape, expected=shape)
    if source.dtype.kind not in ("f" if variable.dtype.startswith("float") else "iu"):
        raise FormatError(where, f"{name!r} has another type", got=str(source.dtype), expected=variable.dtype)
    units = text_of(source.attrs.get("units"))
    if units and variable.native_units and units not in variable.native_units:
        raise FormatError(where, f"{name!r} has other units", got=units, expected=list(variable.native_units))
    if variable.units == "dB" and "db" in units.lower():
        raise FormatError(where, f"{name!r} is not linear power", got=units, expected="linear power")


@dataclass
class Selection:
    """What a call of a loader asks for, and what of it the granules have.

    Parameters
    ----------
    who : str
        The loader.
    catalogue : dict of str to Variable
        Variables of the product family.
    family : {"passive", "active_passive"}
        Whose meanings the flags have.
    names : sequence of str, optional
        The caller's ``variables``.
    flag_policy, tb_policy : str
        Names of policies.
    exclude_surface : sequence of str
        Conditions of the surface that mask soil moisture.
    """

    who: str
    catalogue: dict[str, Variable]
    family: str
    names: Sequence[str] | str | None
    flag_policy: str
    tb_policy: str
    exclude_surface: Sequence[str]
    variables: list[Variable] = field(init=False)
    tests: dict[str, list[FlagTest]] = field(init=False)
    absent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        check_option(self.who, "flag_policy", self.flag_policy, list(FLAG_POLICIES))
        check_option(self.who, "tb_policy", self.tb_policy, list(TB_POLICIES))
        self.variables = choose_variables(self.who, self.names, self.catalogue)
        chosen = {variable.name for variable in self.variables}
        excluded = [self.exclude_surface] if isinstance(self.exclude_surface, str) else list(self.exclude_surface)
        self.exclude_surface = excluded
        surface = surface_tests(self.who, self.family, excluded)
        self.tests = {}
        if any(variable.screened for variable in self.variables):
            self.tests["soil_moisture"] = retrieval_tests(self.flag_policy) + surface
        for label, letter in (("1.41H", "h"), ("1.41V", "v")) if "tb" in chosen else ():
            self.tests[f"tb:{label}"] = [
                FlagTest(f"tb_qual_flag_{letter}", reason, bit, True) for reason, bit in TB_POLICIES[self.tb_policy]
            ]

    def find(
        self,
        granule: Granule,
        group: h5py.Group,
        suffix: str,
        shape: tuple[int, ...],
        *,
        renamed: Mapping[str, str],
        suffixes: Sequence[str] = (),
    ) -> dict[Role, str]:
        """Names of the fields in a granule's group; what it lacks of the default variables is remembered as absent.

        Parameters
        ----------
        granule : Granule
            For messages.
        group : h5py.Group
            Where the fields are.
        suffix : str
            What every name ends with, as "_pm" or "_3km".
        shape : tuple of int
            That fields must have, apart from a third axis.
        renamed : mapping of str to str
            Names, without suffix, of variables that the option decides.
        suffixes : sequence of str
            Of the algorithm, for variables that have one by algorithm; the name without comes last.

        Raises
        ------
        FormatError
            If a field that was asked for, or a flag that masks, is not there, or has another shape, type or units.
        """
        where = f"{self.who}({granule.path.name})"
        flags = list(dict.fromkeys(test.flag for tests in self.tests.values() for test in tests))
        chosen = {variable.name: variable for variable in self.variables}
        roles: dict[Role, str] = {}
        for name in (*chosen, *(flag for flag in flags if flag not in chosen)):
            variable = self.catalogue[name]
            endings = (*suffixes, "") if variable.by_algorithm and name not in renamed else ("",)
            found: dict[Role, str] = {}
            for label, natives in variable.natives.items():
                bases = (renamed[name],) if name in renamed else natives
                full = [f"{base}{ending}{suffix}" for ending in endings for base in bases]
                native = next((native for native in full if isinstance(group.get(native), h5py.Dataset)), None)
                if native is not None:
                    found[name, label] = native
            if len(found) == len(variable.natives):
                for native in found.values():
                    check_field(where, group[native], variable, shape)
                roles |= found
            elif name in flags or self.names is not None:
                raise FormatError(
                    where,
                    f"there is no field for {name!r}",
                    got=sorted(group),
                    expected=sorted({f"{native}{suffix}" for n in variable.natives.values() for native in n}),
                    next_step="Leave it out of 'variables'"
                    if name not in flags
                    else "Pass flag_policy='none', tb_policy='none' and no exclude_surface to read without flags",
                )
            else:
                self.absent.add(name)
        return roles

    def present(self) -> list[Variable]:
        """The variables that all granules have; to be asked when all were searched."""
        return [variable for variable in self.variables if variable.name not in self.absent]

    def attrs(self, granules: Sequence[Granule]) -> dict[str, Any]:
        """Global attributes that say what was chosen."""
        return {
            "product": granules[0].product,
            "releases": json.dumps(sorted({granule.release for granule in granules})),
            "flag_policy": self.flag_policy,
            "tb_policy": self.tb_policy,
            "exclude_surface": json.dumps(list(self.exclude_surface)),
            "absent_variables": json.dumps(sorted(self.absent)),
        }


def passive_algorithm(who: str, granules: Sequence[Granule], option: str) -> str:
    """The algorithm of an option for all granules.

    Raises
    ------
    ParameterError
        If the option is unknown.
    FormatError
        If it is "baseline" and the granules' releases have two.
    """
    check_option(who, "option", option, OPTIONS)
    if option != "baseline":
        return option
    algorithms = {baseline_algorithm(granule.release): granule.path.name for granule in granules}
    if len(algorithms) > 1:
        raise FormatError(
            who,
            "the granules' releases have two baseline algorithms",
            got=algorithms,
            next_step="Open one release, or name the algorithm: option='sca-v' or option='dca'",
        )
    return next(iter(algorithms))


def passive_names(
    who: str, granule: Granule, group: h5py.Group, suffix: str, option: str, algorithm: str
) -> dict[str, str]:
    """Names, without suffix, of soil moisture and its flag in a passive granule.

    Raises
    ------
    FormatError
        If the granule has no such retrieval; the message lists those it has.
    """
    endings = [""] if option == "baseline" else list(ALGORITHMS[algorithm])
    if option == baseline_algorithm(granule.release):
        endings.append("")  # older files hold it under the plain name only
    for ending in endings:
        if f"soil_moisture{ending}{suffix}" in group:
            return {"soil_moisture": f"soil_moisture{ending}", "retrieval_qual_flag": f"retrieval_qual_flag{ending}"}
    there = sorted(name for name in group if name.startswith("soil_moisture") and "error" not in name)
    raise FormatError(
        f"{who}({granule.path.name})",
        f"there is no soil moisture of option {option!r}",
        got=there,
        expected=[f"soil_moisture{ending}{suffix}" for ending in endings],
        next_step="Choose an option that the release has; without soil moisture, leave it out of 'variables'",
    )
