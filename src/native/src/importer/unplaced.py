# What importlib must ask before it looks at files that may not be in the tree yet.


def namespace(loader, place):
    # A namespace package's reader lists its folders by path.
    original = loader.get_resource_reader

    def get_resource_reader(self, module):
        for folder in self._path:
            place(folder)
        return original(self, module)

    get_resource_reader.__doc__ = original.__doc__
    loader.get_resource_reader = get_resource_reader


def metadata(module, known, place):
    # Whoever locates a distribution's file is about to read it; `Distribution.files` locates all
    # of them to leave out those that don't exist (Python 3.12 and newer), which the index knows.
    import _thread

    listing = _thread._local()
    locate_file = module.PackagePath.locate
    list_files = module.Distribution.files.fget

    class Located:
        def __init__(self, path):
            self.path = path

        def exists(self):
            answer = known(str(self.path))
            return self.path.exists() if answer is None else answer

    def locate(self):
        path = locate_file(self)
        if getattr(listing, "depth", 0):
            return Located(path)
        place(str(path))
        return path

    def files(self):
        listing.depth = getattr(listing, "depth", 0) + 1
        try:
            return list_files(self)
        finally:
            listing.depth -= 1

    locate.__doc__ = locate_file.__doc__
    module.PackagePath.locate = locate
    module.Distribution.files = property(files, doc=list_files.__doc__)


def program(module, bare):
    # Every look-up of a distribution lists the program's folder, which comes first on `sys.path`.
    search = module.FastPath.search

    def search_unless_bare(self, name):
        return () if bare(str(self.root)) else search(self, name)

    search_unless_bare.__name__ = search.__name__
    search_unless_bare.__doc__ = search.__doc__
    module.FastPath.search = search_unless_bare
