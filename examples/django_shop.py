"""Django: a view calls a plug-in, behind the WSGI server of the standard library with a thread for each request."""

# mypy: disable-error-code="empty-body"
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from typing import Any
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from mukernel import Interface, KernelThread, Plugin


class Greeter(Interface):
    async def greet(self, name: str) -> str: ...


class English(Plugin, Greeter):
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"


class Polite(English):
    async def greet(self, name: str) -> str:
        return f"Good day, {name}!"


kernel = KernelThread()  # in a project: started by an AppConfig's ready(), which runs once in each worker


def greeting(request: HttpRequest, name: str) -> HttpResponse:
    greeter: Any = kernel.get(Greeter)
    return HttpResponse(greeter.greet(name))


urlpatterns = [path("<str:name>", greeting)]


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""


class Handler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not news here."""


def main() -> None:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="of an example")
    django.setup()
    logging.getLogger("django").setLevel(logging.ERROR)
    with kernel:
        kernel.load(English, name="greeter", placement="process")
        server = make_server("127.0.0.1", 0, get_wsgi_application(), Server, Handler)
        web = threading.Thread(target=server.serve_forever, daemon=True)
        web.start()

        def ask(name: str) -> str:
            with urlopen(f"http://127.0.0.1:{server.server_port}/{name}") as answer:
                text: str = answer.read().decode()
                return text

        print(ask("Ada"))
        with ThreadPoolExecutor(8) as visitors:
            requests = [visitors.submit(ask, "Ada") for _ in range(40)]
            kernel.swap("greeter", Polite)
            print(f"all answered during the swap: {len([request.result() for request in requests]) == 40}")
        print(ask("Ada"))
        server.shutdown()
        web.join()
        server.server_close()


if __name__ == "__main__":
    main()
