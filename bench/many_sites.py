"""The part `many-sites` of the benchmark in any size, printed and not in the report.

python -m bench.many_sites --edges 4 --machines 1000 --minutes 2 --away-minutes 1
"""

import argparse

import msgspec

from bench.parts.many_sites import Size, run, section


def main() -> None:
    parser = argparse.ArgumentParser(description="Many sites at work on one hub.")
    for name, default in msgspec.structs.asdict(Size()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    size = Size(**vars(parser.parse_args()))
    print(f"{size.edges} sites of {size.machines:,} machines", flush=True)
    print("\n".join(section(run(size)).lines))


if __name__ == "__main__":
    main()
