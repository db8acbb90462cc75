from tui_entropy.cli import main

if __name__ == "__main__":
    main()
