NAME = "tool"

if __name__ == "__main__":
    print(__spec__.name, __spec__.parent)
