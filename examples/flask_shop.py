"""Flask: views call plug-ins as they would any object, in whatever thread they run, while one is swapped."""

# mypy: disable-error-code="empty-body"
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

from flask import Flask
from werkzeug.serving import make_server

from mukernel import Interface, KernelThread, Plugin


class Catalog(Interface):
    async def price(self, item: str) -> int: ...


class Prices(Plugin, Catalog):
    def __init__(self, *, tea: int) -> None:
        self.prices = {"tea": tea}

    async def price(self, item: str) -> int:
        return self.prices[item]


class Rounded(Prices):
    async def price(self, item: str) -> int:
        return round(self.prices[item], -1)


def create_app(kernel: KernelThread) -> Flask:
    app, catalog = Flask("shop"), kernel.get(Catalog)

    @app.get("/<item>")
    def price(item: str) -> str:
        return f"{catalog.price(item)}"  # blocks: the proxy is for code without an event loop

    return app


def main() -> None:
    with KernelThread() as kernel:
        kernel.load(Prices, name="catalog", placement="process", config={"tea": 123})
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server("127.0.0.1", 0, create_app(kernel), threaded=True)
        web = threading.Thread(target=server.serve_forever, daemon=True)
        web.start()

        def ask(_: int) -> str:
            with urlopen(f"http://127.0.0.1:{server.port}/tea") as answer:
                return f"{answer.status} {answer.read().decode()}"

        with ThreadPoolExecutor(8) as customers:
            before = set(customers.map(ask, range(40)))
            requests = [customers.submit(ask, number) for number in range(40)]
            kernel.swap("catalog", Rounded)
            during = {request.result() for request in requests}
            after = set(customers.map(ask, range(40)))
        print(f"before {before}, during the swap as before or after: {during <= before | after}, after {after}")
        server.shutdown()
        web.join()
        server.server_close()


if __name__ == "__main__":
    main()
